"""A group with two projects and one of everything in them. What the configuration says can change in place."""

import pulumi
import pulumi_command as command
import pulumi_gitlab as gitlab

config = pulumi.Config()
# As where GitLab itself is made by the same program: at the first preview nobody knows its token.
mint = command.local.Command(
    "mint",
    create="cat",
    stdin=config.require_secret("token"),
    logging=command.local.Logging.NONE,
    opts=pulumi.ResourceOptions(additional_secret_outputs=["stdout"]),
)
provider = gitlab.Provider("gitlab", base_url=config.require("baseUrl"), token=mint.stdout, early_auth_check=False)
here = pulumi.ResourceOptions(provider=provider)
gitlab.ApplicationSettings("settings", signup_enabled=False, valid_runner_registrars=["project", "group"], opts=here)
group = gitlab.Group("group", name="Team", path="team", permanently_remove_on_delete=True, opts=here)
project = gitlab.Project(
    "project",
    name="app",
    path="app",
    namespace_id=group.id.apply(int),
    description=config.require("description"),
    visibility_level="private",
    default_branch="main",
    initialize_with_readme=True,
    shared_runners_enabled=False,
    container_registry_access_level="enabled",
    container_expiration_policy={
        "enabled": config.require_bool("cleanup"),
        "cadence": "7d",
        "keep_n": 10,
        "name_regex_delete": "^branch-.*",
        "name_regex_keep": "",
    },
    topics=["second", "first"],
    opts=here,
)
other = gitlab.Project(
    "other", name="other", path="other", namespace_id=group.id.apply(int), permanently_delete_on_destroy=True, opts=here
)
protection = gitlab.BranchProtection(
    "protection", project=project.id, branch="main", allow_force_push=config.require_bool("force"), opts=here
)
variable = gitlab.ProjectVariable(
    "variable", project=project.id, key="PASSPHRASE", value=config.require_secret("value"), masked=True, opts=here
)
pull = gitlab.ProjectDeployToken("pull", project=project.id, scopes=["read_registry"], opts=here)
bot = gitlab.ProjectAccessToken(
    "bot", project=project.id, scopes=["read_repository", "read_api"], access_level="reporter", opts=here
)
gitlab.ProjectMembership(
    "member", project=project.id, user_id=config.require_int("user"), access_level=config.require("level"), opts=here
)
after = pulumi.ResourceOptions(provider=provider, depends_on=[protection, variable])
files = [
    gitlab.RepositoryFile(
        name,
        project=project.id,
        branch="main",
        file_path=name,
        content=content,
        encoding="text",
        commit_message=f"Write {name}",
        opts=after,
    )
    for name, content in (("server.js", config.require("code")), ("test/hello.js", "// é\n"))
]
runner = gitlab.UserRunner(
    "runner",
    runner_type="project_type",
    project_id=project.id.apply(int),
    description="docker-builder",
    tag_lists=["docker", "build"],
    untagged=True,
    locked=False,
    maximum_timeout=config.require_int("timeout"),
    opts=here,
)
gitlab.ProjectRunnerEnablement("shared", project=other.id, runner_id=runner.id.apply(int), opts=here)
user = gitlab.get_current_user_output(opts=pulumi.InvokeOptions(provider=provider))
pulumi.export("user", user.username)
pulumi.export("address", project.web_url)
pulumi.export("deploy", pulumi.Output.secret({"username": pull.username, "token": pull.token}))
pulumi.export("bot", bot.token)
pulumi.export("runner", runner.token)
pulumi.export("commit", files[0].last_commit_id)
