"""The cluster's packet filter rules: our few, kube-proxy's, kubelet's and the CNI plugins' - and taking out
exactly those.

kube-proxy and the CNI plugins name their chains by fixed prefixes. A cluster refuses to start beside chains
of another one, so what carries such a prefix later is ours; CNI chains can belong to podman as well, so those
are told apart by a list made at the start.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from local_cluster.addresses import Subnets
from local_cluster.commands import find, run

FORWARD, INPUT, MASQUERADE = "MODELMILL-FORWARD", "MODELMILL-INPUT", "MODELMILL-MASQ"
FAMILIES = ("iptables", "ip6tables")


@dataclass
class Table:
    """One table of `iptables-save`: chain declarations and rules, in order."""

    name: str
    chains: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)


def parse(saved: str) -> list[Table]:
    tables: list[Table] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            tables.append(Table(line[1:].strip()))
        elif line.startswith(":") and tables:
            tables[-1].chains.append(line[1:].split()[0])
        elif line.startswith("-A ") and tables:
            tables[-1].rules.append(line)
    return tables


def is_ours(chain: str, foreign: Collection[str]) -> bool:
    return chain.startswith(("KUBE-", "MODELMILL-", "CNI-")) and chain not in foreign


def removal(saved: str, foreign: Collection[str]) -> str:
    """Input for `iptables-restore --noflush` that takes out our chains and the rules that lead into them, and
    nothing else."""
    output: list[str] = []
    for table in parse(saved):
        ours = {chain for chain in table.chains if is_ours(chain, foreign)}
        if not ours:
            continue
        output.append(f"*{table.name}")
        # First the references from chains that stay, then the contents, then the chains themselves.
        for rule in table.rules:
            words = rule.split()
            if words[1] not in ours and _target(words) in ours:
                output.append("-D " + rule[len("-A ") :])
        output += [f"-F {chain}" for chain in sorted(ours)]
        output += [f"-X {chain}" for chain in sorted(ours)]
        output.append("COMMIT")
    return "\n".join(output) + "\n" if output else ""


def _target(words: list[str]) -> str:
    for option in ("-j", "-g"):
        if option in words:
            return words[words.index(option) + 1]
    return ""


def chains(saved: str) -> set[str]:
    return {chain for table in parse(saved) for chain in table.chains}


def chains_now() -> set[str]:
    return chains(run(["iptables-save"]).stdout) if find("iptables-save") else set()


def install(bridge: str, subnets: Subnets) -> None:
    """Pods reach out, answers come back, and nothing from outside this machine reaches pods or the node's
    address."""
    gateway, pods = subnets.gateway, subnets.pods
    rules = f"""\
*filter
:{FORWARD} - [0:0]
:{INPUT} - [0:0]
-A {FORWARD} -i {bridge} -j ACCEPT
-A {FORWARD} -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A {FORWARD} -o {bridge} -j DROP
-A {INPUT} -i {bridge} -d {gateway}/32 -j ACCEPT
-A {INPUT} -d {gateway}/32 ! -i lo -j DROP
COMMIT
*nat
:{MASQUERADE} - [0:0]
-A {MASQUERADE} -s {pods} ! -d {pods} -j MASQUERADE
COMMIT
"""
    run(["iptables-restore", "--noflush", "-w", "5"], stdin=rules)
    for table, chain, own in (
        ("filter", "FORWARD", FORWARD),
        ("filter", "INPUT", INPUT),
        ("nat", "POSTROUTING", MASQUERADE),
    ):
        if run(["iptables", "-w", "5", "-t", table, "-C", chain, "-j", own], check=False).returncode != 0:
            run(["iptables", "-w", "5", "-t", table, "-I", chain, "1", "-j", own])


def remove(foreign_chains: Collection[str]) -> None:
    """Take our chains out. What stays with the nft variant is an empty table of built-in chains: no rule."""
    for family in FAMILIES:
        if not find(f"{family}-save"):
            continue
        saved = run([f"{family}-save"], check=False).stdout
        commands = removal(saved, foreign_chains)
        if commands:
            run([f"{family}-restore", "--noflush", "-w", "5"], stdin=commands)
    # kube-proxy's sets; they can only go when no rule refers to them.
    if find("ipset"):
        for name in run(["ipset", "list", "-n"], check=False).stdout.split():
            if name.startswith("KUBE-"):
                run(["ipset", "destroy", name], check=False)
