"""A password, an ID and key pairs of every algorithm."""

import pulumi
import pulumi_random as random
import pulumi_tls as tls

keepers = {"generation": pulumi.Config().require("generation")}
password = random.RandomPassword("password", length=24, min_special=3, override_special="_-", keepers=keepers)
plain = random.RandomString("plain", length=12, special=False, upper=False, min_numeric=2)
identifier = random.RandomId("identifier", byte_length=4, prefix="x-")
pulumi.export("password", password.result)
pulumi.export("plain", plain.result)
pulumi.export("identifier", identifier.hex)
for algorithm in ("ED25519", "RSA", "ECDSA"):
    curve = "P256" if algorithm == "ECDSA" else None
    key = tls.PrivateKey(algorithm, algorithm=algorithm, ecdsa_curve=curve)
    pulumi.export(
        algorithm,
        {
            "pem": key.private_key_pem,
            "pkcs8": key.private_key_pem_pkcs8,
            "openssh": key.private_key_openssh,
            "public": key.public_key_openssh,
            "public_pem": key.public_key_pem,
            "sha256": key.public_key_fingerprint_sha256,
            "md5": key.public_key_fingerprint_md5,
        },
    )
