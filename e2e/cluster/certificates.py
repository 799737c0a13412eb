"""A certificate authority of the cluster's own, and what it signs (X.509, ECDSA on P-256)."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = datetime.timedelta(days=365)
SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates into a directory that only its owner can read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.certificate = directory / "ca.crt"

    def create(self) -> None:
        """Make the authority's own certificate, and the key pair that signs service account tokens."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("coxswain-local", ())
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        certificate = _builder(name, name, key).add_extension(x509.BasicConstraints(True, None), True)
        _write(self.directory / "ca.key", _pem(key))
        _write(self.certificate, _encode(certificate.add_extension(usage, True).sign(key, hashes.SHA256())))
        accounts = ec.generate_private_key(ec.SECP256R1())
        _write(self.directory / "accounts.key", _pem(accounts))

    @property
    def accounts_key(self) -> Path:
        """Signs and verifies service account tokens."""
        return self.directory / "accounts.key"

    def issue(self, file: str, *, user: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> Certificate:
        """Sign a certificate for `user` in `groups` (Kubernetes reads CN and O), valid for serving on `hosts`."""
        issued = Certificate(self.directory / f"{file}.crt", self.directory / f"{file}.key")
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = _builder(_name(user, groups), self._own.subject, key).add_extension(
            x509.ExtendedKeyUsage(usages), False
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), False)
        _write(issued.key, _pem(key))
        _write(issued.certificate, _encode(builder.sign(self._key, hashes.SHA256())))
        return issued

    def kubeconfig(self, path: Path, *, server: str, user: str, groups: Sequence[str] = ()) -> Path:
        """Write a kubeconfig (as JSON, which is YAML) for a user with a certificate of their own."""
        issued = self.issue(path.stem, user=user, groups=groups)
        cluster = {"server": server, "certificate-authority-data": _base64(self.certificate)}
        identity = {
            "client-certificate-data": _base64(issued.certificate),
            "client-key-data": _base64(issued.key),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "coxswain", "cluster": cluster}],
            "users": [{"name": user, "user": identity}],
            "contexts": [{"name": "coxswain", "context": {"cluster": "coxswain", "user": user}}],
            "current-context": "coxswain",
        }
        _write(path, json.dumps(config, indent=1).encode())
        return path

    @cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_pem_private_key((self.directory / "ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    @cached_property
    def _own(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes())


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - SKEW).not_valid_after(now + LIFE)


def _name(user: str, groups: Sequence[str]) -> x509.Name:
    organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _encode(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _write(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)
