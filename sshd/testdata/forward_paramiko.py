"""Forwards with paramiko: paramiko.py HOST PORT KEYFILE TARGET_HOST TARGET_PORT. Prints "ok" when both ways worked."""
import sys
import paramiko

host, port, keyfile, target, target_port = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])


def answer(f):
    f.sendall(b"hello\n")
    f.shutdown_write()
    got = b""
    while True:
        more = f.recv(4096)
        if not more:
            return got
        got += more


client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect(host, port, "me", key_filename=keyfile, allow_agent=False, look_for_keys=False)
transport = client.get_transport()

# -L
channel = transport.open_channel("direct-tcpip", (target, target_port), ("127.0.0.1", 1))
assert answer(channel) == b"target: hello\ntarget: end\n"

# -R: through the listener at the server, back to us, and by another channel to the target
listening = transport.request_port_forward("127.0.0.1", 0)
caller = transport.open_channel("direct-tcpip", ("127.0.0.1", listening), ("127.0.0.1", 1))
caller.sendall(b"hello\n")
incoming = transport.accept(20)
assert incoming.recv(6) == b"hello\n"
incoming.sendall(b"from here")
incoming.close()
assert caller.recv(100) == b"from here"
transport.cancel_port_forward("127.0.0.1", listening)
client.close()
print("ok")
