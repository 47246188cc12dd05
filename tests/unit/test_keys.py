"""The key file's protection, and what derives from the key."""

import hashlib
import hmac
import os
import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deidlib import keys

KEY = bytes(range(32))
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def test_new_key_is_private_under_any_umask_and_readable(tmp_path):
    path = tmp_path / "made" / "here.key"
    before = os.umask(0)
    try:
        keys.write_new_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(keys.read_key(path)) >= 32


def test_two_new_keys_differ(tmp_path):
    keys.write_new_key(tmp_path / "a")
    keys.write_new_key(tmp_path / "b")
    assert keys.read_key(tmp_path / "a") != keys.read_key(tmp_path / "b")


def test_a_key_is_never_overwritten(tmp_path):
    keys.write_new_key(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(keys.KeyFileError, match="never overwritten"):
        keys.write_new_key(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


def test_a_dangling_link_is_not_written_through(tmp_path):
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(keys.KeyFileError):
        keys.write_new_key(tmp_path / "key")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_open_to_others_is_refused(tmp_path, mode):
    keys.write_new_key(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(keys.KeyFileError, match="chmod 600"):
        keys.read_key(tmp_path / "key")


def test_a_missing_key_names_the_command(tmp_path):
    with pytest.raises(keys.KeyFileError, match="deidlib keygen"):
        keys.read_key(tmp_path / "none")


def test_a_folder_is_no_key(tmp_path):
    with pytest.raises(keys.KeyFileError, match="deidlib keygen"):
        keys.read_key(tmp_path)


def test_a_short_key_is_refused_without_showing_it(tmp_path):
    (tmp_path / "key").write_bytes(b"secret" * 5 + b"\n")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(keys.KeyFileError, match="32 bytes") as caught:
        keys.read_key(tmp_path / "key")
    assert "secret" not in str(caught.value)


def test_the_line_break_at_the_end_is_not_part_of_the_key(tmp_path):
    key = hashlib.sha256(b"a test").hexdigest().encode()
    for name, content in {"unix": key + b"\n", "bare": key, "dos": key + b"\r\n"}.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
        assert keys.read_key(tmp_path / name) == key


@pytest.mark.parametrize(
    "weak",
    [b"a" * 64, b"0123456789abcdef" * 4, bytes(range(64)), b"password" * 8, b"0" * 40 + b"passwords", bytes(32)],
)
def test_a_key_that_can_be_guessed_is_refused(tmp_path, weak):
    (tmp_path / "key").write_bytes(weak)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(keys.KeyFileError, match="guessed"):
        keys.read_key(tmp_path / "key")


def test_random_keys_are_not_called_weak():
    rng = np.random.default_rng(0)
    for _ in range(1000):
        assert not keys.is_weak(rng.bytes(32))
        assert not keys.is_weak(rng.bytes(32).hex().encode())


def test_a_key_given_instead_of_its_file_is_not_shown(tmp_path):
    key = hashlib.sha256(b"a test").hexdigest()
    for named in (key, str(tmp_path / key)):
        with pytest.raises(keys.KeyFileError, match="no key file") as caught:
            keys.read_key(named)
        assert key not in str(caught.value)


def test_pseudonym_against_hmac_written_out():
    # Independent reference: HMAC as RFC 2104 defines it, and base32 as RFC 4648 does, by hand.
    message = b"".join(len(p).to_bytes(8, "big") + p for p in [b"pseudonym", b"photo", b"P1", "ä".encode()])
    block = KEY.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message).digest()
    digest = hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()
    bits = "".join(f"{byte:08b}" for byte in digest)
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    expected = "".join(letters[int(bits[i : i + 5], 2)] for i in range(0, 80, 5))
    assert keys.pseudonym(KEY, "photo", "P1", "ä") == expected
    assert hmac.new(KEY, message, hashlib.sha256).digest() == digest


@given(st.lists(text, min_size=1, max_size=3), st.lists(text, min_size=1, max_size=3))
def test_pseudonyms_agree_only_for_equal_parts(a, b):
    assert (keys.pseudonym(KEY, "photo", *a) == keys.pseudonym(KEY, "photo", *b)) == (a == b)


@given(text, text)
def test_where_one_part_ends_matters(a, b):
    assert keys.pseudonym(KEY, "photo", a + "x", b) != keys.pseudonym(KEY, "photo", a, "x" + b)
    assert keys.pseudonym(KEY, "photo", a, b) != keys.pseudonym(KEY, "photo", a + b)


@given(text)
def test_key_and_kind_matter(part):
    other = keys.pseudonym(KEY[::-1], "patient", part)
    assert len({keys.pseudonym(KEY, "patient", part), keys.pseudonym(KEY, "photo", part), other}) == 3
    assert len(other) == 16
    assert set(other) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_the_random_stream_repeats_and_is_the_keys_own():
    def draw(key, *parts):
        return keys.keyed_rng(key, "donor", *parts).integers(0, 2**63, 8).tolist()

    assert draw(KEY, "P1") == draw(KEY, "P1")
    assert draw(KEY, "P1") != draw(KEY, "P2")
    assert draw(KEY, "P1") != draw(KEY[::-1], "P1")


def test_the_random_stream_ignores_global_state():
    first = keys.keyed_rng(KEY, "donor", "P1").random()
    np.random.default_rng(1).random(5)
    assert keys.keyed_rng(KEY, "donor", "P1").random() == first


@given(text, st.integers(1, 5000))
def test_a_shard_is_in_range_and_repeats(patient, n):
    assert 0 <= keys.shard_of(KEY, patient, n) < n
    assert keys.shard_of(KEY, patient, n) == keys.shard_of(KEY, patient, n)


def test_shards_are_evenly_filled_and_hang_on_the_key():
    shards = [keys.shard_of(KEY, f"P{i}", 10) for i in range(5000)]
    counts = np.bincount(shards, minlength=10)
    # Chi-squared with 9 degrees of freedom exceeds 33.7 once in 10 000; the key is fixed, so no flakes.
    assert ((counts - 500) ** 2 / 500).sum() < 33.7
    assert shards != [keys.shard_of(KEY[::-1], f"P{i}", 10) for i in range(5000)]


def test_no_shards_is_an_error():
    with pytest.raises(ValueError, match="n_shards"):
        keys.shard_of(KEY, "P1", 0)
