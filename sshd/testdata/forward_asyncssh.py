"""Forwards with asyncssh: asyncssh.py HOST PORT KEYFILE TARGET_HOST TARGET_PORT DIR. Prints "ok" when all ways worked."""
import asyncio
import sys
import asyncssh

host, port, keyfile, target, target_port, directory = sys.argv[1:7]
want = b"target: hello\ntarget: end\n"


async def answer(reader, writer):
    writer.write(b"hello\n")
    writer.write_eof()
    got = await reader.read()
    writer.close()
    return got


async def serve(reader, writer):
    assert await reader.readline() == b"hello\n" and await reader.read() == b""
    writer.write(want)
    writer.close()


async def main():
    await asyncio.start_unix_server(serve, directory + "/target.sock")
    async with asyncssh.connect(host, int(port), username="me", client_keys=[keyfile], known_hosts=None, agent_path=None,
                                config=None) as conn:
        local = await conn.forward_local_port("127.0.0.1", 0, target, int(target_port))
        assert await answer(*await asyncio.open_connection("127.0.0.1", local.get_port())) == want

        remote = await conn.forward_remote_port("127.0.0.1", 0, target, int(target_port))
        assert await answer(*await asyncio.open_connection("127.0.0.1", remote.get_port())) == want

        path = directory + "/remote.sock"
        sockets = await conn.forward_remote_path(path, directory + "/target.sock")
        assert await answer(*await asyncio.open_unix_connection(path)) == want

        near = await conn.forward_local_path(directory + "/near.sock", path)
        assert await answer(*await asyncio.open_unix_connection(directory + "/near.sock")) == want

        for listener in (local, remote, near, sockets):
            listener.close()
            await listener.wait_closed()
        # The largest window there is, and packets to match.
        assert await answer(*await conn.open_connection(target, int(target_port), encoding=None, window=2**32 - 1, max_pktsize=2**31)) == want

        result = await conn.run("uptime", check=False)
        assert result.exit_status == 1 and "no shell" in result.stderr, result
    print("ok")


asyncio.run(asyncio.wait_for(main(), 30))
