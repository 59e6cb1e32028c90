"""Throws broken conversations at both ends of the tunnel: what comes out is what was meant, or a typed error.

``hostile_frames.py --seconds 60 --seed 7``: prints the frames of a conversation that ended in anything else,
as hex, one a line, and ends with 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence

from walle_agent.streams.tunnel import TunnelSender
from walle_shared.errors import LimitExceeded, RemoteProtocolError
from walle_shared.protocol.asks import (
    Answer,
    Ask,
    AskSender,
    Push,
    answer_frame,
    push_frame,
    taken_frame,
    welcome_frame,
)
from walle_shared.protocol.codec import encode
from walle_shared.protocol.messages import GoodbyeNotice
from walle_shared.protocol.tunnel import (
    Deflater,
    Frame,
    FrameKind,
    Hello,
    PaceNotice,
    Record,
    TunnelClass,
    decode_frame,
    encode_frame,
    tombstone_payload,
)
from walle_shared.protocol.tunnel_receiver import TunnelReceiver, goodbye_frame, pace_frame
from walle_shared.protocol.version import PROTOCOL_VERSION

_REFUSALS = (RemoteProtocolError, LimitExceeded)


def from_device(chance: random.Random) -> list[bytes]:
    """A conversation that a device may hold."""
    hello = encode(Hello("store", {"REALTIME": 1}, ("pace", "asks")))
    frames = [encode_frame(Frame(FrameKind.HELLO, TunnelClass.REALTIME, PROTOCOL_VERSION, hello))]
    asker, deflater = AskSender(), Deflater()
    asker.receive(decode_frame(welcome_frame()))
    for seq in range(1, chance.randrange(2, 12)):
        match chance.randrange(5):
            case 0:
                record = Record("demo", "t", "1", "r", "f", 1, {"n": seq, "nested": [{"a": [None, 1.5]}]})
                payload = deflater.compress(encode(record))
                frames.append(
                    encode_frame(Frame(FrameKind.DATA, chance.choice([*TunnelClass]), seq, payload))
                )
            case 1:
                payload = tombstone_payload(seq + chance.randrange(3))
                frames.append(encode_frame(Frame(FrameKind.TOMBSTONE, TunnelClass.BATCH, seq, payload)))
            case 2 | 3:
                data = chance.randbytes(chance.choice([0, 1, 40_000, 100_000]))
                ask = Ask("demo", "t", "1", "r", {"a": [1, "x"]}, chance.randrange(1, 9_999), len(data))
                ask_id, parts = asker.ask(ask, data)
                frames += parts
                if chance.random() < 0.3 and (withdrawal := asker.cancel(ask_id)) is not None:
                    frames.append(withdrawal)
            case _:
                frames.append(taken_frame(seq))
    return frames


def from_cloud(chance: random.Random) -> list[bytes]:
    """A conversation that a cloud may hold with a device that asks four questions."""
    frames = [welcome_frame()]
    for ask_id in chance.sample(range(1, 5), 3):
        answer = chance.choice([Answer({"x": [1]}), Answer(reason="busy", message="later")])
        frames.append(answer_frame(ask_id, answer))
    frames.append(push_frame(chance.randrange(1, 9), Push("store:REALTIME:3", "demo", "t", {"x": 1})))
    frames.append(pace_frame(chance.randrange(5), PaceNotice("slow")))
    frames.append(encode_frame(Frame(FrameKind.ACK, TunnelClass.REALTIME, 0)))
    frames.append(goodbye_frame(GoodbyeNotice(1.0)))
    return frames


def broken(frames: Sequence[bytes], chance: random.Random) -> list[bytes]:
    """The same with a few things wrong: bits, ends, kinds, order, numbers, strangers."""
    frames = list(frames)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(frames))
        frame = bytearray(frames[at])
        match chance.randrange(7):
            case 0 if frame:
                frame[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
            case 1:
                del frame[chance.randrange(len(frame) + 1) :]
            case 2:
                frame += chance.randbytes(chance.randrange(20))
            case 3 if frame:
                frame[0] = chance.randrange(16)
            case 4 if len(frame) >= 10:
                frame[2:10] = chance.choice([0, 1, 2, 2**63, 2**64 - 1]).to_bytes(8)
            case 5:
                frame = bytearray(chance.randbytes(chance.randrange(40)))
            case _:
                frames.insert(chance.randrange(len(frames) + 1), bytes(frame))
        frames[at] = bytes(frame)
    return frames


def play(frames: Sequence[bytes], *, to_cloud: bool) -> int:
    """How many frames one end takes before it refuses one; whatever else it raises goes on."""
    if to_cloud:
        receiver = TunnelReceiver()
        take = receiver.receive
    else:
        sender, asker = TunnelSender("store", dict.fromkeys(TunnelClass, (1, 3))), AskSender()
        asker.receive(decode_frame(welcome_frame()))
        for _ in range(4):
            asker.ask(Ask("demo", "t", "1", "r", {}, 1), b"")

        def take(data: bytes) -> object:
            received = sender.receive(data)
            return asker.receive(received) if isinstance(received, Frame) else received

    for number, frame in enumerate(frames):
        try:
            take(frame)
        except _REFUSALS:
            return number
    return len(frames)


def conversations(chance: random.Random) -> Iterator[tuple[list[bytes], bool]]:
    """Broken conversations and who they are with, for ever."""
    while True:
        to_cloud = chance.random() < 0.6
        yield broken(from_device(chance) if to_cloud else from_cloud(chance), chance), to_cloud


def main() -> int:
    """Fuzz for a while."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    until_s, count = time.monotonic() + given.seconds, 0
    for frames, to_cloud in conversations(random.Random(given.seed)):
        try:
            play(frames, to_cloud=to_cloud)
        except Exception as error:  # noqa: BLE001  # that is what is looked for
            print(f"{type(error).__name__}: {error}, {'to the cloud' if to_cloud else 'to the device'}:")
            print(*(frame.hex() for frame in frames), sep="\n")
            return 1
        count += 1
        if time.monotonic() > until_s:
            break
    print(f"{count} conversations")
    return 0


if __name__ == "__main__":
    sys.exit(main())
