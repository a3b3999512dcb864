"""Lines of `gitlab.rb` that a stack file adds: what they may set, and which secrets they use.

The file is Ruby, which only Ruby can fully parse. This module recognizes its usual form: a section with a literal key
in brackets. Sections that the stack partly owns may be used in that form only, so nothing is missed. Keys that GitLab
does not know are left to the package, whose list differs from version to version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from components.settings.shown import shown

#: Settings and whole sections that are the stack's own, and where they are set instead.
_OWNED: Final = {
    "external_url": "set domain and hostname",
    "registry_external_url": "set registry.port",
    "registry": "set the section registry",
    "registry_nginx": "set the section registry",
    "letsencrypt": "set the section certificate",
    "high_availability": "the stack mounts the data volume there",
}
_OF_NGINX: Final = {
    **dict.fromkeys(("enable", "listen_https"), "the stack checks and opens HTTPS itself"),
    **dict.fromkeys(("listen_port", "redirect_http_to_https_port"), "the firewall opens no other port"),
    **dict.fromkeys(("ssl_certificate", "ssl_certificate_key"), "set the section certificate"),
    "redirect_http_to_https": "the stack redirects port 80",
}
#: The other keys of mail, such as smtp_pool, are free.
_SMTP_KEYS: Final = (
    *("smtp_enable", "smtp_address", "smtp_port", "smtp_user_name", "smtp_password", "smtp_domain", "smtp_tls"),
    *("smtp_authentication", "smtp_enable_starttls_auto", "smtp_openssl_verify_mode", "smtp_ca_file", "smtp_ssl"),
    *("gitlab_email_from", "gitlab_email_display_name", "gitlab_email_reply_to"),
)
#: Where GitLab's tables are. The rest of the connection, such as db_statements_limit, is free.
_DATABASE_KEYS: Final = ("db_adapter", "db_database", "db_host", "db_password", "db_port", "db_socket", "db_username")
_DATABASE: Final = "set databases.postgresql"
_OF_AN_ACCOUNT: Final = dict.fromkeys(("uid", "gid"), "the data volume has the owners that the stack chose")
#: Keys that are the stack's own in sections of which the rest is free.
_OWNED_KEYS: Final[dict[str, dict[str, str]]] = {
    "gitlab_rails": {
        **dict.fromkeys(("backup_path", "backup_keep_time"), "set the section backup"),
        **dict.fromkeys(_DATABASE_KEYS, _DATABASE),
        "time_zone": "set timeZone",
        **dict.fromkeys(_SMTP_KEYS, "set the section smtp"),
        "gitlab_shell_ssh_port": "the firewall opens no other port",
        **dict.fromkeys(
            ("initial_root_password", "store_initial_root_password", "display_initial_root_password"),
            "the stack sets the password, see the output gitlab_admin_password",
        ),
    },
    "nginx": _OF_NGINX,
    **dict.fromkeys(("user", "web_server", "redis", "prometheus"), _OF_AN_ACCOUNT),
    "postgresql": {**_OF_AN_ACCOUNT, "enable": _DATABASE},
}
#: How Ruby reaches a setting without naming it, reads another file, or ends before GitLab is configured.
_ESCAPES: Final = re.compile(
    r"(?<![\w'\"])(Gitlab\b|(?:instance_|class_|module_)?eval\b|(?:public_|__)?send\b|(?:instance_|class_)?exec\b|"
    r"from_file\b|method_missing\b|self\b|binding\b|define_method\b|exit\b|abort\b|__END__|=begin\b)"
)
#: Code within a string.
_INTERPOLATION: Final = r"#\{(?:[^{}]|\{[^{}]*\})*\}"
#: A comment, a heredoc's start, or a string; in this order, because the first two may contain quotes.
_LITERAL: Final = re.compile(
    r"(?P<comment>#[^\n]*)|<<[~-]?(?P<quote>['\"]?)(?P<end>[A-Z_a-z]\w*)(?P=quote)"
    r"|'(?P<single>(?:\\.|[^'\\])*)'|\"(?P<double>(?:\\.|" + _INTERPOLATION + r"|[^\"\\])*)\"",
    re.DOTALL,
)
#: What stands for a string while code is looked at: its place in a list.
_PLACE: Final = re.compile("\x00(\\d+)\x00")
_INDEX: Final = r"\s*\[\s*(?:\x00(?P<text>\d+)\x00|:(?P<symbol>\w+))\s*\]"
#: Names of keys that hold secrets. Those of files, addresses and methods go on after it.
_SECRET_KEY: Final = re.compile(
    r"(PASS(WORD|WD|PHRASE)|PWD|SECRET|TOKEN|CREDENTIALS?|(^|_)KEY|KEY_BASE)$", re.IGNORECASE
)
#: A key and the text that is assigned to it.
_ASSIGNED: Final = re.compile(r"(?:\x00(\d+)\x00\s*\]?|(\w+))\s*(?:=>?|:)\s*\x00(\d+)\x00")


class Line(NamedTuple):
    """An error about lines of `gitlab.rb`: what is wrong, what would happen, and what to do."""

    number: int
    message: str


class _Code(NamedTuple):
    """Ruby without comments, and with placeholders for its strings."""

    text: str
    strings: list[str]

    def line(self, position: int) -> int:
        return self.text.count("\n", 0, position) + 1

    def key(self, found: re.Match[str]) -> str:
        return found["symbol"] or self.strings[int(found["text"])]


def errors_of(lines: str, secrets: frozenset[str]) -> Iterator[str]:
    """All errors in lines of `gitlab.rb`, given the names of the secrets that they may use."""
    code = _read(lines)
    found = [
        *_escapes(code),
        *_open_quotes(code),
        *_owned(code),
        *_owned_keys(code),
        *_plain_secrets(code),
        *_secrets(code, secrets),
    ]
    yield from dict.fromkeys(f"line {number}: {message}" for number, message in sorted(found))


def used_secrets(lines: str) -> frozenset[str]:
    """The names of the secrets that lines of `gitlab.rb` use."""
    code = _read(lines)
    return frozenset(code.key(found) for found in re.finditer(rf"\bsecrets{_INDEX}", code.text))


def _read(lines: str) -> _Code:
    strings: list[str] = []
    return _Code(_without_strings(lines.replace("\r\n", "\n"), strings), strings)


def _without_strings(lines: str, strings: list[str]) -> str:
    """The code with a placeholder for each string, which is appended to `strings`. Lines keep their numbers."""
    parts: list[str] = []
    position = 0
    while found := _LITERAL.search(lines, position):
        parts.append(lines[position : found.start()])
        position = found.end()
        if found["comment"] is not None:
            continue
        value = found["single"] if found["single"] is not None else found["double"]
        if found["end"]:
            value, position = _heredoc(lines, found)
            # A heredoc without an end is reported like a quote without one.
            parts.append("" if value is not None else '"')
        strings.append(value or "")
        parts.append(f"\x00{len(strings) - 1}\x00")
        if found["single"] is None and found["quote"] != "'":
            # Code within a string counts as well.
            inner = " ".join(one[2:-1] for one in re.findall(_INTERPOLATION, value or "")).replace("\n", " ")
            parts.append(_without_strings(inner, strings))
        parts.append("\n" * lines.count("\n", found.start(), position))
    return "".join([*parts, lines[position:]])


def _heredoc(lines: str, found: re.Match[str]) -> tuple[str | None, int]:
    """The text of a heredoc, or None if it has no end; and where the code goes on. The rest of its line is lost."""
    body = lines.find("\n", found.end()) + 1 or len(lines)
    end = re.compile(rf"^[ \t]*{found['end']}$", re.MULTILINE).search(lines, body)
    return (lines[body : end.start()], end.end()) if end else (None, found.end())


def _escapes(code: _Code) -> Iterator[Line]:
    for found in _ESCAPES.finditer(code.text):
        message = (
            f"{shown(found[1])} could change settings unseen, or end before GitLab is configured; what the stack has "
            "set and checked would not hold. Write one assignment per line: gitlab_rails['KEY'] = VALUE"
        )
        yield Line(code.line(found.start()), message)


def _open_quotes(code: _Code) -> Iterator[Line]:
    if (position := max(code.text.find("'"), code.text.find('"'))) >= 0:
        message = (
            "has a quote that is never closed; Ruby would reject the file, or read it differently from this check. "
            "Close it"
        )
        yield Line(code.line(position), message)


def _owned(code: _Code) -> Iterator[Line]:
    for name, instead in _OWNED.items():
        for found in re.finditer(rf"(?<![\w.:@$]){name}\b(?!\s*(?::[^:]|=>))", code.text):
            index = re.compile(_INDEX).match(code.text, found.end())
            whole = f"{name}['{code.key(index)}']" if index else name
            yield Line(code.line(found.start()), _owned_message(whole, instead))


def _owned_keys(code: _Code) -> Iterator[Line]:
    for section, keys in _OWNED_KEYS.items():
        for found in re.finditer(rf"(?<![\w.:@$]){section}\b(?!\s*(?::[^:]|=>))", code.text):
            line = code.line(found.start())
            if not (index := re.compile(_INDEX).match(code.text, found.end())):
                message = (
                    f"{section} is used without a literal key; it would have no effect, or change keys that the stack "
                    f"owns. Write one assignment per line: {section}['KEY'] = VALUE"
                )
                yield Line(line, message)
                continue
            key, name = code.key(index), f"{section}['{code.key(index)}']"
            if key in keys:
                yield Line(line, _owned_message(name, keys[key]))
            elif section == "gitlab_rails" and key == "nginx":
                yield from _nginx(code, name, index)


def _nginx(code: _Code, name: str, outer: re.Match[str]) -> Iterator[Line]:
    inner = re.compile(_INDEX).match(code.text, outer.end())
    if inner is None:
        message = (
            f"{name} is used as a whole; it would replace what the stack has set there. "
            f"Write one assignment per line: {name}['KEY'] = VALUE"
        )
        yield Line(code.line(outer.start()), message)
    elif (key := code.key(inner)) in _OF_NGINX:
        yield Line(code.line(outer.start()), _owned_message(f"{name}['{key}']", _OF_NGINX[key]))


def _owned_message(name: str, instead: str) -> str:
    return f"{shown(name)} is the stack's own; this line would silently override it. Remove the line: {instead}"


def _plain_secrets(code: _Code) -> Iterator[Line]:
    assigned = [
        (found.start(), code.strings[int(found[1])] if found[1] else found[2], code.strings[int(found[3])])
        for found in _ASSIGNED.finditer(code.text)
    ]
    # A document of YAML, as GitLab's own examples have it.
    assigned += [
        (place.start(), *entry)
        for place in _PLACE.finditer(code.text)
        for entry in re.findall(r"^[ \t]*(\w+):[ \t]*['\"]?([^\s'\"]+)", code.strings[int(place[1])], re.MULTILINE)
    ]
    for position, key, value in assigned:
        # The names of files, addresses and code are no secrets.
        if _SECRET_KEY.search(key) and value and not re.match(r"/|https?://|#\{|<%", value):
            message = (
                f"{shown(key)} is a secret in plain text; anyone who can read the stack file or its state would have "
                "it. Replace the secret, set the new one with: pulumi config set --secret --path "
                "gitlab.extraSecrets.NAME …; and write secrets['NAME'] here"
            )
            yield Line(code.line(position), message)


def _secrets(code: _Code, known: frozenset[str]) -> Iterator[Line]:
    for found in re.finditer(r"(?<![\w.:@$])secrets\b(?!\s*(?::[^:]|=>))", code.text):
        line, index = code.line(found.start()), re.compile(_INDEX).match(code.text, found.end())
        if index is None or re.match(r"\s*&?\.", code.text[index.end() :]):
            message = (
                "secrets is used in another form than secrets['NAME']; a Ruby error could print its values. Use each "
                "value unchanged"
            )
            yield Line(line, message)
        elif code.key(index) not in known:
            message = (
                f"secrets['{shown(code.key(index))}'] is not one of gitlab.extraSecrets; GitLab would get nothing. "
                f"Set it with: pulumi config set --secret --path gitlab.extraSecrets.{shown(code.key(index))} …"
            )
            yield Line(line, message)
