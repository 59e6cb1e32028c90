import pytest

from walle_shared.errors import ConfigError
from walle_shared.ids import check_name, check_sha256, check_version


@pytest.mark.parametrize("name", ["a", "digit_reader", "a" * 64, "x9"])
def test_legal_names_pass(name: str) -> None:
    assert check_name(name, "task") == name


@pytest.mark.parametrize("name", ["", "A", "9a", "a-b", "a" * 65, "a/b", "ä", "a\n"])
def test_illegal_names_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(ConfigError, match=r"task .* is not a name"):
        check_name(name, "task")


@pytest.mark.parametrize("version", ["1", "1.2", "1.2.3.4", "2.0-rc.1", "1.0+build.5"])
def test_legal_versions_pass(version: str) -> None:
    assert check_version(version) == version


@pytest.mark.parametrize("version", ["", "v1", "1.2.3.4.5", "1..2", "1.0/../2", "1.0-"])
def test_illegal_versions_are_refused(version: str) -> None:
    with pytest.raises(ConfigError, match="is not like"):
        check_version(version)


@pytest.mark.parametrize("digest", ["", "a" * 63, "A" * 64, "g" * 64, "../" + "a" * 61])
def test_illegal_digests_are_refused(digest: str) -> None:
    with pytest.raises(ConfigError, match="hex digits"):
        check_sha256(digest)
