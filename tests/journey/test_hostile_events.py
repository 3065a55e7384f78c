"""What is signed but hostile, through the door and the payments consumer: stored, judged, and nobody stops or loops."""

from shared import topics
from shared.db.engine import rows
from tests.support import corpus
from tests.support.builders import Sale, bytes_of, insert_sales
from tests.support.served import values
from tests.support.waiting import until

NO_EVENTS = {"no type", "type a list", "created a string", "amount a string", "amount a float", "metadata a list", "no data"}
NOT_OUR_MONEY = {"amount negative", "amount zero", "currency unknown"}


async def test_hostile_events_are_judged_once_and_stop_nobody(pipeline, engine, kafka):
    """Each is read once; what is no event, or not our money, lies among the dead letters; the sale behind them is paid."""
    abused, sale = Sale(), Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, abused, sale)
    await pipeline.start("ingress", "payments")
    await pipeline.until_ready("ingress", "payments")

    answers = {name: (body, await pipeline.post(body)) for name, body in corpus.signed(abused).items()}
    honest = bytes_of(sale.succeeded())
    await pipeline.deliver(honest)

    assert {status for _, status in answers.values()} == {200, 400}
    # A thin event is answered 200 and ignored: it holds no state.
    taken = [body for name, (body, status) in answers.items() if status == 200 and name != "thin"]

    async def paid():
        async with engine.begin() as tx:
            return await rows(tx, "select 1 from payments where id = $1 and status = 'succeeded'", sale.payment_id)

    async def all_read():
        return await pipeline.progress("payments") == len(taken) + 1

    await until(paid, "the honest sale is paid", deadline_seconds=60)
    await until(all_read, "every event is read, and none twice", deadline_seconds=60)
    dead = await values(kafka, topics.STRIPE_EVENTS_DLT.named(kafka.topic_prefix))

    assert sorted(await values(kafka, topics.STRIPE_EVENTS.named(kafka.topic_prefix))) == sorted([*taken, honest])
    assert {name for name in NO_EVENTS | NOT_OUR_MONEY if answers[name][0] in dead} == NO_EVENTS | NOT_OUR_MONEY
    assert honest not in dead
    await pipeline.until_ready("payments")  # the same process: nobody starts it again here
    assert "Traceback" not in pipeline.logged("payments")
