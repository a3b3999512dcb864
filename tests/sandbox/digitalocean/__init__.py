"""An emulator of the DigitalOcean HTTP API v2, of its metadata service and of its name servers.

`app.create_app` is the API, `metadata.create_metadata_app` the service at 169.254.169.254, `dns.DnsServer` the name
server, `control.create_control_app` the sandbox's own control interface. All of them work on one `state.store.Store`
and one `state.cloud.Cloud`. Formats, error IDs and messages follow the public OpenAPI document of the API and answers
quoted in the issue trackers of its official clients; where neither covers a refusal, the comment beside it says why.
"""
