"""Settings of the instance."""

from __future__ import annotations

from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Field, Fields, Kind, Resource
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.gitlab.names import fields, from_api, own_names, to_api
from tests.sandbox.plugins.gitlab.session import session_of

_FLAGS = (
    "admin_mode",
    "allow_local_requests_from_system_hooks",
    "allow_local_requests_from_web_hooks_and_services",
    "allow_project_creation_for_guest_and_below",
    "allow_runner_registration_token",
    "authorized_keys_enabled",
    "auto_devops_enabled",
    "bulk_import_enabled",
    "can_create_group",
    "container_expiration_policies_enable_historic_entries",
    "container_registry_expiration_policies_caching",
    "dns_rebinding_protection_enabled",
    "domain_denylist_enabled",
    "gravatar_enabled",
    "hide_third_party_offers",
    "html_emails_enabled",
    "invisible_captcha_enabled",
    "keep_latest_artifact",
    "password_authentication_enabled_for_git",
    "password_authentication_enabled_for_web",
    "project_export_enabled",
    "prometheus_metrics_enabled",
    "protected_ci_variables",
    "remember_me_enabled",
    "require_admin_approval_after_user_signup",
    "require_two_factor_authentication",
    "shared_runners_enabled",
    "signup_enabled",
    "suggest_pipeline_enabled",
    "time_tracking_limit_to_hours",
    "update_runner_versions_enabled",
    "usage_ping_enabled",
    "user_default_external",
    "user_oauth_applications",
    "user_show_add_ssh_key_message",
    "version_check_enabled",
)
_NUMBERS = (
    "ci_max_includes",
    "ci_max_total_yaml_size_bytes",
    "container_registry_cleanup_tags_service_max_list_size",
    "container_registry_delete_tags_service_timeout",
    "container_registry_expiration_policies_worker_capacity",
    "container_registry_token_expire_delay",
    "default_project_creation",
    "default_projects_limit",
    "deletion_adjourned_period",
    "first_day_of_week",
    "max_artifacts_size",
    "max_attachment_size",
    "max_import_size",
    "minimum_password_length",
    "receive_max_input_size",
    "session_expire_delay",
    "terminal_max_session_time",
    "two_factor_grace_period",
)
_TEXTS = (
    "abuse_notification_email",
    "after_sign_out_path",
    "after_sign_up_text",
    "commit_email_hostname",
    "default_artifacts_expire_in",
    "default_branch_name",
    "default_ci_config_path",
    "default_group_visibility",
    "default_preferred_language",
    "default_project_visibility",
    "default_snippet_visibility",
    "email_confirmation_setting",
    "enabled_git_access_protocol",
    "help_page_support_url",
    "help_page_text",
    "home_page_url",
    "shared_runners_text",
    "whats_new_variant",
)
#: The program's names of lists end in a plural that the API's do not have.
_LISTS = {
    "disabledOauthSignInSources": "disabled_oauth_sign_in_sources",
    "domainAllowlists": "domain_allowlist",
    "domainDenylists": "domain_denylist",
    "importSources": "import_sources",
    "restrictedVisibilityLevels": "restricted_visibility_levels",
    "validRunnerRegistrars": "valid_runner_registrars",
}


class ApplicationSettings(Resource):
    """Some of the settings of the instance. What the program leaves out stays as it is, and destroying changes nothing.

    Of the official one's inputs it has those that matter to a small instance of the Community Edition.
    """

    full_name = "gitlab:index/applicationSettings:ApplicationSettings"
    inputs: ClassVar[Fields] = {
        **fields(Kind.BOOLEAN, _FLAGS, computed=True),
        **fields(Kind.INTEGER, _NUMBERS, computed=True),
        **fields(Kind.STRING, _TEXTS, computed=True),
        **{name: Field(Kind.LIST, items=Kind.STRING, unordered=True, computed=True) for name in _LISTS},
    }
    outputs = tuple(inputs)
    _names: ClassVar = {**own_names((*_FLAGS, *_NUMBERS, *_TEXTS)), **_LISTS}
    _path = "/application/settings"

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        return "gitlab", self._write(call, inputs)

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        return identifier, from_api(self._names, session_of(call).get(self._path))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del identifier, old
        return self._write(call, inputs)

    def _write(self, call: Call, inputs: Properties) -> Properties:
        body = to_api(self._names, inputs)
        session = session_of(call)
        return from_api(self._names, session.put(self._path, body) if body else session.get(self._path))
