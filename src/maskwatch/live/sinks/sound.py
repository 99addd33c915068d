"""A short sound for an event: two tones of our own, played by what the system has."""

from __future__ import annotations

import array
import math
import shutil
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

from maskwatch.errors import EventError, OptionError
from maskwatch.live.events import Event
from maskwatch.live.sinks import Sink

PLAYERS = (("afplay",), ("pw-play",), ("paplay",), ("aplay", "-q"))
"""Programs that play a WAV file, with their options; the first one that is there is taken."""

_RATE_HZ = 22050
_TONES = ((880.0, 0.18), (660.0, 0.25))
"""Frequency in Hz and length in seconds, one after the other."""

_FADE_S = 0.01
_TIMEOUT_S = 10.0


class SoundSink(Sink):
    """Plays a sound for each event; the bell of the terminal where there is nothing better.

    Raises:
        OptionError: nothing here can make a sound.
    """

    name = "sound"
    kinds = frozenset(["alert"])

    def __init__(self) -> None:
        self._player = find_player()
        self._folder = tempfile.TemporaryDirectory(prefix="maskwatch-")
        self._file = Path(self._folder.name, "alert.wav")
        write_tones(self._file)

    def send(self, event: Event) -> None:
        if self._player is None:
            _beep(self._file)
            return
        try:
            subprocess.run(
                [*self._player, str(self._file)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EventError(f"{self._player[0]} plays nothing ({error}); check the loudspeaker") from None

    def close(self, timeout_s: float) -> None:
        del timeout_s
        self._folder.cleanup()


def find_player() -> tuple[str, ...] | None:
    """Program and options that play a file; None where Windows itself or the terminal's bell does it.

    Raises:
        OptionError: nothing here can make a sound.
    """
    for name, *options in PLAYERS:
        path = shutil.which(name)
        if path is not None:
            return path, *options
    if sys.platform == "win32" or sys.stderr.isatty():
        return None
    raise OptionError(
        f"--sound needs one of {', '.join(name for name, *_ in PLAYERS)}, or a terminal with a bell; install "
        "one (Debian: alsa-utils), or use --shell"
    )


def write_tones(path: Path) -> None:
    """Writes the sound as 16-bit mono WAV."""
    samples = array.array("h")
    for frequency, seconds in _TONES:
        number = round(seconds * _RATE_HZ)
        for index in range(number):
            # Faded in and out, or it would crack.
            edge = min(1.0, index / (_FADE_S * _RATE_HZ), (number - index) / (_FADE_S * _RATE_HZ))
            samples.append(round(12000 * edge * math.sin(2 * math.pi * frequency * index / _RATE_HZ)))
    if sys.byteorder == "big":
        samples.byteswap()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE_HZ)
        file.writeframes(samples.tobytes())


def _beep(file: Path) -> None:
    if sys.platform == "win32":
        import winsound

        winsound.PlaySound(str(file), winsound.SND_FILENAME)
    else:
        print("\a", end="", file=sys.stderr, flush=True)
