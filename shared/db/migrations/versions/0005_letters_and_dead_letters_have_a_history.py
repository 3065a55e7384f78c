"""Give every change of a letter's state its time, and every action upon a dead letter its author.

The history of letters is written by a trigger, once a statement: whoever changes a state, an operator included, cannot
forget it.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = (
    "alter table letters add column handed_over_at timestamptz",
    """
    create table letter_changes (
        id bigint generated always as identity primary key,
        letter_id uuid not null,
        state text not null,
        reason text,
        attempts integer not null,
        last_answer text,
        changed_at timestamptz not null default now()
    )
    """,
    "create index ix_letter_changes_letter_id on letter_changes (letter_id)",
    """
    create function letters_entered() returns trigger language plpgsql as $$
    begin
        insert into letter_changes (letter_id, state, reason, attempts, last_answer)
        select id, state, reason, attempts, last_answer from entered;
        return null;
    end $$
    """,
    """
    create function letters_changed() returns trigger language plpgsql as $$
    begin
        insert into letter_changes (letter_id, state, reason, attempts, last_answer)
        select c.id, c.state, c.reason, c.attempts, c.last_answer
        from changed c join earlier e on e.id = c.id where e.state <> c.state;
        return null;
    end $$
    """,
    """
    create trigger letters_entered after insert on letters
    referencing new table as entered for each statement execute function letters_entered()
    """,
    """
    create trigger letters_changed after update on letters
    referencing old table as earlier new table as changed for each statement execute function letters_changed()
    """,
    """
    create table dead_letter_actions (
        id bigint generated always as identity primary key,
        topic text not null,
        "partition" integer not null,
        "offset" bigint not null,
        reason text not null,
        action text not null,
        actor text not null,
        begun_at timestamptz not null default now(),
        done_at timestamptz
    )
    """,
    'create index dead_letter_actions_by_place on dead_letter_actions (topic, "partition", "offset")',
)


def upgrade() -> None:
    """Add a column and two tables; no row that exists is rewritten."""
    for statement in STATEMENTS:
        op.execute(statement)
