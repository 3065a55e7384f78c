"""Bring the roles of a database to what rights.py says: the statements that are missing, and running them.

Enters: a connection as the owner of the tables, who may create roles. Leaves: a plan, empty when nothing differs. The roles are
ours alone, so rights that the map does not give are revoked; tables, logins and other roles stay as they are.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from deploy.ops.errors import NotFound
from deploy.ops.rights import EVERY, RIGHTS, Rights
from shared import logs
from shared.db.engine import rows

log = logs.get(__name__)

# No login, and none of the powers that stand above all rights.
POWERS = "nologin nosuperuser nocreatedb nocreaterole noreplication nobypassrls"
LOCK = "select pg_advisory_xact_lock($1)"
LOCK_KEY = 0x0CB_0701E
ABSENT = "select name from unnest($1::text[]) as asked (name) where to_regclass(name) is null"
PLACE = """
select quote_ident(current_database()), relnamespace::regnamespace::text from pg_class where oid = 'payments'::regclass
"""
KNOWN_ROLES = """
select rolname::text, rolcanlogin or rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls
from pg_roles where rolname = any($1::text[])
"""
MEMBERSHIPS = """
select m.rolname::text, quote_ident(g.rolname) from pg_auth_members a
join pg_roles m on m.oid = a.member join pg_roles g on g.oid = a.roleid
where m.rolname = any($1::text[]) order by 1, 2
"""
# PUBLIC has no row in pg_roles; its oid as a grantee is 0.
PRESENT = """
select coalesce(r.rolname::text, 'public'), held.kind, held.name, lower(a.privilege_type), held.part
from (
    select case c.relkind when 'S' then 'sequence' else 'table' end, c.oid::regclass::text, null::text, c.relacl
    from pg_class c where c.relnamespace <> 'pg_catalog'::regnamespace and c.relnamespace <> 'information_schema'::regnamespace
    union all
    select 'table', c.attrelid::regclass::text, c.attname::text, c.attacl from pg_attribute c where c.attnum > 0
    union all
    select 'schema', quote_ident(n.nspname), null, coalesce(n.nspacl, acldefault('n', n.nspowner)) from pg_namespace n
    union all
    select 'database', quote_ident(d.datname), null, coalesce(d.datacl, acldefault('d', d.datdba)) from pg_database d
    where d.datname = current_database()
) held (kind, name, part, acl)
cross join lateral aclexplode(held.acl) a
left join pg_roles r on r.oid = a.grantee
where r.rolname = any($1::text[]) or (a.grantee = 0 and (
    (held.kind = 'table' and held.name = any($2::text[]))
    or (held.kind = 'schema' and held.name = $3 and a.privilege_type = 'CREATE')
))
"""

quote = postgresql.dialect().identifier_preparer.quote  # type: ignore[no-untyped-call]  # SQLAlchemy types it nowhere


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One right of one role: a privilege upon a thing (`table payments`), or upon one column of it (`part`)."""

    role: str
    kind: str
    name: str
    privilege: str
    part: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The statements that bring a database to the map, in order; `notes` are rights that all users have, ours among them.

    `kept` are statements that would take rights away which the map does not give, and which were asked to stay.
    """

    statements: tuple[str, ...]
    notes: tuple[str, ...]
    kept: tuple[str, ...] = ()


async def plan(tx: AsyncConnection, *, keep: bool = False) -> Plan:
    """Compare and change nothing; with `keep` no right is taken away. Raises NotFound where tables are missing."""
    tables = sorted({table for rights in RIGHTS.values() for table in rights})
    if absent := [row[0] for row in await rows(tx, ABSENT, tables)]:
        raise NotFound(f"the database lacks the table {absent[0]}: run `cb-ops migrate`")
    [(database, schema)] = await rows(tx, PLACE)
    known = dict(await rows(tx, KNOWN_ROLES, list(RIGHTS)))
    found = {
        Right(role, kind, name, privilege, part or "")
        for role, kind, name, privilege, part in await rows(tx, PRESENT, list(RIGHTS), tables, schema)
    }
    everybodys = {right for right in found if right.role == "public"}
    asked = set(wanted(database=database, schema=schema))
    statements = [f"create role {role} {POWERS}" for role in RIGHTS if role not in known]
    statements += [f"alter role {role} {POWERS}" for role, is_powerful in known.items() if is_powerful]
    statements += [f"revoke {group} from {role}" for role, group in await rows(tx, MEMBERSHIPS, list(RIGHTS))]
    # Before PostgreSQL 15 everybody may create tables in the schema public.
    statements += [f"revoke create on schema {schema} from public" for right in everybodys if right.kind == "schema"]
    taken = written("revoke", "from", found - everybodys - asked)
    statements += [] if keep else taken
    statements += written("grant", "to", asked - found)
    notes = written("grant", "to", {right for right in everybodys if right.kind == "table"})
    return Plan(tuple(statements), tuple(notes), tuple(taken) if keep else ())


async def apply(tx: AsyncConnection, *, keep: bool = False) -> Plan:
    """Run the plan in this transaction and return it; a second run finds nothing to do. Raises as `plan` does."""
    await rows(tx, LOCK, LOCK_KEY)
    made = await plan(tx, keep=keep)
    for statement in made.statements:
        await tx.exec_driver_sql(statement)
    log.info("roles.applied", count=len(made.statements))
    return made


def wanted(*, database: str, schema: str, rights: Mapping[str, Mapping[str, Rights]] = RIGHTS) -> Iterator[Right]:
    """Yield every right of the map, and what a login needs to come so far. Pure."""
    for role, tables in rights.items():
        yield Right(role, "database", database, "connect")
        yield Right(role, "schema", schema, "usage")
        for table, given in tables.items():
            for privilege in ("select", "insert", "update"):
                for column in getattr(given, privilege).split():
                    yield Right(role, "table", table, privilege, "" if column == EVERY else column)
            if given.delete:
                yield Right(role, "table", table, "delete")


def written(verb: str, preposition: str, rights: Iterable[Right]) -> list[str]:
    """Return the statements that grant or revoke these rights, columns of one table together. Pure."""
    statements = []
    by_thing = groupby(
        sorted(rights), key=lambda right: (right.role, right.kind, right.name, right.privilege, right.part == "")
    )
    for (role, kind, name, privilege, is_whole), several in by_thing:
        columns = "" if is_whole else f" ({', '.join(quote(right.part) for right in several)})"
        statements.append(f"{verb} {privilege}{columns} on {kind} {name} {preposition} {role}")
    return statements
