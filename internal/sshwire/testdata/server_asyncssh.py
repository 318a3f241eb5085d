"""A server that forwards, of asyncssh: server_asyncssh.py PORT HOSTKEY AUTHORIZED_KEYS."""
import asyncio
import sys
import asyncssh


class Server(asyncssh.SSHServer):
    def connection_requested(self, dest_host, dest_port, orig_host, orig_port):
        return True


async def main():
    await asyncssh.listen("127.0.0.1", int(sys.argv[1]), server_host_keys=[sys.argv[2]], authorized_client_keys=sys.argv[3],
                          server_factory=Server, rekey_bytes=1 << 20)
    await asyncio.sleep(120)


asyncio.run(main())
