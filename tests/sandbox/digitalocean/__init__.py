"""An emulator of the DigitalOcean HTTP API v2, of its metadata service and of its name servers.

`app.create_app` is the API, `metadata.create_metadata_app` the service at 169.254.169.254, `dns.DnsServer` the name
server, `control.create_control_app` the sandbox's own switchboard. They share one `store.Store` and one `cloud.Cloud`.
Shapes, error ids and messages follow the public OpenAPI document of the API and answers quoted in the issue trackers of
its official clients; where neither says, the comment beside the refusal does.
"""
