"""A command on another machine, told what to do by the stack's configuration."""

import pulumi
from pulumi_command import remote

config = pulumi.Config()
connection = remote.ConnectionArgs(
    host="127.0.0.1",
    port=config.require_int("port"),
    private_key=config.require_secret("key"),
    host_key=config.require("hostKey"),
    dial_error_limit=1,
)
command = remote.Command(
    "command",
    connection=connection,
    create=config.require("create"),
    delete=config.get("delete"),
    stdin=config.require_secret("stdin"),
    triggers=[config.require("trigger")],
    logging=remote.Logging.NONE,
)
copied = remote.CopyToRemote(
    "copied",
    connection=connection,
    source=pulumi.StringAsset(config.require("text")),
    remote_path=config.require("path"),
)
pulumi.export("stdout", command.stdout)
