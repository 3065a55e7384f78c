"""The map of rights against the tables, and the statements that follow from it."""

from deploy.ops.rights import EVERY, RIGHTS, Rights
from deploy.ops.roles import Right, wanted, written
from shared.db import tables

TOLD_FOR_GOOD = ("payment_ledger", "letter_changes", "letter_templates")


def test_every_right_is_upon_a_column_that_is_there():
    """A slip of the pen would fail when an operator applies it."""
    for role, rights in RIGHTS.items():
        for table, given in rights.items():
            columns = set(tables.metadata.tables[table].columns.keys())
            for named in (given.select, given.insert, given.update):
                assert set(named.split()) - {EVERY} <= columns, (role, table)


def test_what_is_told_for_good_is_neither_changed_nor_deleted():
    """By nobody, operators included."""
    changing = [
        (role, table) for role, rights in RIGHTS.items() for table, given in rights.items() if given.update or given.delete
    ]

    assert not {table for _, table in changing} & set(TOLD_FOR_GOOD)


def test_no_role_reads_a_password_or_a_whole_row_of_culturebridges():
    """Of tables that are not ours a role sees the columns that it needs."""
    for rights in RIGHTS.values():
        for table in {one.name for one in tables.OLDER} & rights.keys():
            assert not {EVERY, "password_hash"} & set(rights[table].select.split())


def test_a_column_has_one_writer():
    """As the page of tables says: the door and the payments consumer share `payments` by what they change."""
    shared = set(RIGHTS["cb_ingress"]["payments"].update.split()) & set(RIGHTS["cb_payments"]["payments"].update.split())

    assert shared == {"stripe_session_id", "closed_at"}


def test_columns_of_one_table_are_granted_together():
    """A plan is read by people: one line a table and kind of right, reserved words quoted."""
    rights = {"cb_x": {"inbox": Rights(select="event_id offset", insert=EVERY, delete=True)}}

    found = written("grant", "to", wanted(database="db", schema="public", rights=rights))

    assert found == [
        "grant connect on database db to cb_x",
        "grant usage on schema public to cb_x",
        "grant delete on table inbox to cb_x",
        "grant insert on table inbox to cb_x",
        'grant select (event_id, "offset") on table inbox to cb_x',
    ]
    assert written("revoke", "from", [Right("cb_x", "table", "t", "update", "a")]) == ["revoke update (a) on table t from cb_x"]
