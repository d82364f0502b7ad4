"""Folders in shared places are made safely or refused, and places that cannot be written named."""

import os
from pathlib import Path

import pytest

from dixa_assets.errors import ConfigError
from dixa_assets.files import mistake_of, own_folder

ANOTHER_USER = 54321
PURPOSE = "Something is kept there."


def test_a_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = own_folder(tmp_path / "own", PURPOSE)
    finally:
        os.umask(before)
    assert made.stat().st_mode & 0o777 == 0o700


def test_an_own_folder_that_others_may_write_becomes_private(tmp_path: Path) -> None:
    place = tmp_path / "own"
    place.mkdir()
    place.chmod(0o777)
    assert own_folder(place, PURPOSE).stat().st_mode & 0o777 == 0o700


def test_a_link_to_a_folder_is_refused_and_its_target_unchanged(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    (home / "precious").mkdir()
    place = tmp_path / "own"
    place.symlink_to(home)
    with pytest.raises(ConfigError, match=f"^{place}: is not your own folder. {PURPOSE} Have it"):
        own_folder(place, PURPOSE)
    assert home.stat().st_mode & 0o777 == 0o755
    assert (home / "precious").is_dir()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder for another user")
@pytest.mark.parametrize("mode", [0o777, 0o700])
def test_a_folder_of_another_user_is_refused(tmp_path: Path, mode: int) -> None:
    place = tmp_path / "own"
    place.mkdir()
    place.chmod(mode)
    os.chown(place, ANOTHER_USER, ANOTHER_USER)
    with pytest.raises(ConfigError, match=f"^{place}: is not your own folder"):
        own_folder(place, PURPOSE)
    assert place.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("name", ["own", "own/below"])
def test_a_file_in_the_place_of_a_folder_is_an_error_that_names_it(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "own").touch()
    with pytest.raises(ConfigError, match=f"^{tmp_path / name}: "):
        own_folder(tmp_path / name, PURPOSE)


def test_a_missing_folder_can_be_written_if_the_one_above_it_can(tmp_path: Path) -> None:
    assert mistake_of("report_path", tmp_path / "new" / "newer") is None
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("place", ["file", "file/below", "dangling", "dangling/below"])
def test_a_place_that_is_no_folder_is_named_with_its_setting(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    setting, problem = mistake_of("report_path", tmp_path / place) or ("", "")
    assert setting == "report_path"
    assert problem.startswith(f"{tmp_path / place.split('/')[0]} cannot be written (")
