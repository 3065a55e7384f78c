"""Remake jars.txt: ask Maven's metadata once which jars Kafka needs, and pin each by its SHA-256.

Run by `make lock`; nothing else resolves dependencies. Next: cache.py, which fetches exactly what the list says.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver

from deploy.dev.jars.download import one_connection
from deploy.dev.jars.jar_list import LIST, Jar

KAFKA = ("org.apache.kafka", "kafka_2.13", "4.4.0")
# Kafka logs through slf4j; without a binding it prints nothing, not even why it died.
LOG_BINDING = ("org.slf4j", "slf4j-simple", "1.7.36")


def pins(cache: Path) -> list[Jar]:
    """Return Kafka's run-time closure and the log binding, resolved apart (together they would change versions)."""
    maven = MavenContext(resolver=PythonResolver(), repo_cache=cache)
    group, artifact, version = KAFKA
    inputs, transitive = maven.resolver.resolve([maven.create_dependency(f"{group}:{artifact}:{version}")])
    coordinates = {(d.groupId, d.artifactId, d.version) for d in (*inputs, *transitive) if d.scope in {"compile", "runtime"}}
    coordinates |= {KAFKA, LOG_BINDING}
    jars = []
    for group_id, artifact_id, jar_version in sorted(coordinates):
        path = maven.project(group_id, artifact_id).at_version(jar_version).artifact().resolve()
        body = path.read_bytes()
        jars.append(Jar(hashlib.sha256(body).hexdigest(), group_id, artifact_id, jar_version, len(body)))
    return jars


def main() -> None:
    """Write the list beside this file."""
    with tempfile.TemporaryDirectory() as folder, one_connection():
        jars = pins(Path(folder))
    LIST.write_text("".join(f"{jar}\n" for jar in jars))
    sys.stdout.write(f"{LIST.name}: {len(jars)} jars, {sum(j.size_bytes for j in jars) / 1e6:.1f} MB\n")


if __name__ == "__main__":
    main()
