"""Forwards with asyncssh as the client: client_asyncssh.py PORT KEYFILE TARGET_PORT. The target echoes. Prints "ok"."""
import asyncio
import os
import sys
import asyncssh

port, keyfile, target_port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])


async def echo(port, size):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = os.urandom(size)

    async def send():
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    assert await reader.read() == data
    await sending
    writer.close()


async def main():
    async with asyncssh.connect("127.0.0.1", port, username="me", client_keys=[keyfile], known_hosts=None, agent_path=None,
                                config=None, rekey_bytes=1 << 20) as conn:
        assert "gcm" in conn.get_extra_info("send_cipher")
        local = await conn.forward_local_port("127.0.0.1", 0, "127.0.0.1", target_port)
        await asyncio.gather(*[echo(local.get_port(), size) for size in (0, 1, 40000, 3000000)])

        # A peer that takes little at a time.
        reader, writer = await conn.open_connection("127.0.0.1", target_port, window=2000, max_pktsize=300)
        data = os.urandom(100000)
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == data
    print("ok")


asyncio.run(asyncio.wait_for(main(), 30))
