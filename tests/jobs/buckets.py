"""An S3 server on the loopback interface, and a wire to it that can be cut, or can lose what a request asks for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

SECRET = "planted-secret-of-the-test"
_CONDITION = b"if-none-match"


class Wire:
    """Passes connections on to a server: `left` bytes of requests, then it is cut for all until `left` is set anew."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.left = float("inf")
        self.loses_conditions = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(self._to) as server:
            back = threading.Thread(target=self._answers, args=(server, client), daemon=True)
            back.start()
            while self.left > 0 and (data := client.recv(1 << 16)):
                self.left -= len(data)
                if self.left <= 0:
                    break
                if self.loses_conditions:  # as a store does that knows nothing of them
                    data = data.replace(_CONDITION, b"x" * len(_CONDITION))
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)
            client.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _answers(server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                client.sendall(data)


class Bucket:
    """The bucket `box`, as its server sees it and over a wire."""

    def __init__(self, client: Any, wire: Wire) -> None:
        self._client = client
        self.wire = wire

    def contents(self, prefix: str) -> dict[str, bytes]:
        """Every object below a prefix that ends in a slash."""
        listed = self._client.list_objects_v2(Bucket="box", Prefix=prefix).get("Contents", [])
        return {one["Key"].removeprefix(prefix): self.get(one["Key"]) for one in listed}

    def get(self, key: str) -> bytes:
        data: bytes = self._client.get_object(Bucket="box", Key=key)["Body"].read()
        return data

    def put(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket="box", Key=key, Body=data)

    @property
    def environment(self) -> Mapping[str, str]:
        """What tells the tools of S3 how to get there over the wire."""
        return {
            "AWS_ENDPOINT_URL": self.wire.endpoint,
            "AWS_ACCESS_KEY_ID": "planted",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def bucket() -> Iterator[Bucket]:
    """A server with an empty bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="planted",
        aws_secret_access_key=SECRET,
    )
    client.create_bucket(Bucket="box")
    wire = Wire(host, port)
    try:
        yield Bucket(client, wire)
    finally:
        wire.close()
        client.close()
        server.stop()
