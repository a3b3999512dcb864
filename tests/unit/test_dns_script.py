"""The step that waits for DNS, on a machine whose resolver is played: when it continues, and what it reports."""

from __future__ import annotations

import subprocess

import pytest

from components.rendering import script

FQDN, ADDRESS = "gitlab.example.test", "198.51.100.7"

#: A machine with systemd-resolved, as Ubuntu has it: `getent` and plain queries answer for the machine's own name with
#: the addresses of its interfaces. Time passes only while something sleeps.
UBUNTU = """
systemctl() { :; }
getent() { echo "203.0.113.10 STREAM $2"; }
resolvectl() {
  case "$*" in
    *\\ acme-*) [ -z "$OTHER" ] || echo "acme IN A $OTHER" ;;
    *--synthesize=no*--type=A\\ *) for one in $A; do echo "$FQDN IN A $one   -- link: eth0"; done ;;
    *--synthesize=no*--type=AAAA\\ *) for one in $AAAA; do echo "$FQDN IN AAAA $one   -- link: eth0"; done ;;
    *) echo "$FQDN IN A 203.0.113.10   -- link: eth0" ;;
  esac
}
"""
#: A machine without it, as Debian has it: for a name without an IPv6 address, it is made from the IPv4 address.
DEBIAN = """
systemctl() { return 3; }
getent() {
  case "$*" in
    *\\ acme-*) [ -n "$OTHER" ] && echo "$OTHER STREAM" ;;
    ahostsv4*) for one in $A; do echo "$one STREAM $2"; echo "$one DGRAM"; done; [ -n "$A" ] ;;
    ahostsv6*) for one in ${AAAA:-${A:+::ffff:$A}}; do echo "$one STREAM $2"; done; [ -n "$A$AAAA" ] ;;
  esac
}
"""
CLOCK = "sleep() { SECONDS=$((SECONDS + 20 * $1)); }"


def wait(machine: str, a: str, aaaa: str = "", other: str = "172.65.32.248") -> subprocess.CompletedProcess[str]:
    """Run the function; `other` is the address of every other name."""
    values = f"FQDN={FQDN} ADDRESS={ADDRESS} LIMIT_SECONDS=9 OTHER='{other}' A='{a}' AAAA='{aaaa}'"
    text = "\n".join([script("prelude.sh"), values.replace(" A", "\nA"), script("dns.sh"), machine, CLOCK])
    return subprocess.run(
        ["bash", "-s"], input=f"{text}\nwait_for_dns </dev/null", capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("machine", [UBUNTU, DEBIAN], ids=["ubuntu", "debian"])
class TestBothDistributions:
    """What holds whoever resolves names on the machine."""

    def test_the_address_alone_is_enough(self, machine: str) -> None:
        done = wait(machine, ADDRESS)
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_second_address_is_an_error_that_names_it(self, machine: str) -> None:
        done = wait(machine, f"{ADDRESS} 192.0.2.44")
        assert done.returncode == 1
        assert f"{FQDN} resolves to 192.0.2.44 and {ADDRESS} instead of {ADDRESS} alone" in done.stderr
        assert "Delete the other A and AAAA records" in done.stderr

    def test_an_ipv6_address_is_an_error(self, machine: str) -> None:
        done = wait(machine, ADDRESS, "2001:db8::44")
        assert done.returncode == 1
        assert "2001:db8::44" in done.stderr

    def test_a_name_that_does_not_exist_is_explained(self, machine: str) -> None:
        done = wait(machine, "")
        assert done.returncode == 1
        assert "the name servers of example.test are not those of its zone" in done.stderr
        assert "remembers that answer for as long as the zone's SOA record says" in done.stderr

    def test_a_machine_whose_resolvers_do_not_respond_says_so_and_blames_no_zone(self, machine: str) -> None:
        done = wait(machine, "", other="")
        assert done.returncode == 1
        assert "error: this machine cannot resolve any name" in done.stderr
        assert "name servers of" not in done.stderr


def test_what_the_name_resolves_to_is_reported_once_and_not_every_five_seconds() -> None:
    assert wait(UBUNTU, "").stderr.count("now it resolves to nothing") == 1
