"""A cluster that speaks TLS alone and asks who it is: every image lets itself in, by settings and by files that it is given.

Enters: the variables of a migrated database. Leaves: a line for whatever did not get in. The cluster is a secured
box's (deploy/dev/services/keys.py), with a user for each process and the rights that `cb-ops acls apply` gives them.
"""

import tempfile
from pathlib import Path

from deploy.dev.services import kafka_settings, keys
from shared import settings
from shared.db import engine as engines
from tests.images.contained import Contained, once
from tests.journey.pipeline import PROCESSES, opened
from tests.support.builders import Sale, bytes_of, insert_sales
from tests.support.members import BrokerAlone

PASSWORD, AUTHORITY = "/run/secrets/kafka_sasl_password", "/etc/culturebridge/kafka-ca.pem"


async def let_in(environment):
    """Let the operator give rights, every process read and write by its own, and two letters come of a webhook."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        broker = BrokerAlone(root / "box", durable=False, secure=True)
        operator = broker.start()
        try:
            ways = {user: _way_in(broker.box, root, user) for user in (keys.OPERATOR, *PROCESSES)}
            return [line async for line in _complaints(environment, kafka_settings.of(operator), root, ways)]
        finally:
            broker.stop()


def _way_in(box, root, user):
    """The variables of a user, and the files that they name, by where a container has them."""
    variables = keys.variables(box, user)
    password, authority = root / f"password-of-{user}", root / "kafka-ca.pem"
    password.write_text(f"{variables.pop('KAFKA_SASL_PASSWORD')}\n")
    authority.write_bytes(keys.authority(box).read_bytes())
    named = {"KAFKA_SASL_PASSWORD_FILE": PASSWORD, "KAFKA_SSL_CA_FILE": AUTHORITY}
    return variables | named, {password: PASSWORD, authority: AUTHORITY}


async def _complaints(environment, kafka, root, ways):
    async def begin(module, *, environment, log):
        variables, files = ways[module.rpartition(".")[2]]
        return await Contained.start(module, environment=environment | variables, log=log, files=files)

    database = settings.Database(database_url=environment["DATABASE_URL"])
    engine = engines.create(database, application="tests")
    sale = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
    await engine.dispose()
    async with opened(database=database, kafka=kafka, folder=root, begin=begin) as pipeline:
        variables, files = ways[keys.OPERATOR]
        variables |= {"KAFKA_BOOTSTRAP_SERVERS": ",".join(kafka.kafka_bootstrap_servers)}
        for command in (("topics", "apply"), ("acls", "apply")):
            ran = once("cb-ops", *command, environment=variables, files=files)
            if ran.returncode:
                yield f"cb-ops {' '.join(command)}: {ran.returncode}: {ran.stdout}{ran.stderr}"
        await pipeline.start(*PROCESSES)
        try:
            await pipeline.until_ready(*PROCESSES)
            await pipeline.deliver(bytes_of(sale.succeeded()), deadline_seconds=30)
            await pipeline.mailbox.wait_for_letters(2, deadline_seconds=30)
        except (AssertionError, TimeoutError) as error:
            yield f"{error}: {[pipeline.logged(name)[-500:] for name in PROCESSES]}"
