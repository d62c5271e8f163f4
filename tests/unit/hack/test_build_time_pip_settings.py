"""An image build gets the machine's pip settings: index and trust, but no path that means nothing inside."""

from pathlib import Path

from local_cluster.pip_settings import for_build


def test_variables_win_over_files_and_local_paths_stay_out(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://a.example/simple\ncert = /etc/ssl/own.pem\n"
        "extra-index-url =\n    https://b.example/simple\n    https://c.example/simple\n"
        "[install]\nuser = true\n"
    )
    environment = {
        "PIP_INDEX_URL": "https://d.example/%40x/simple",
        "PIP_FIND_LINKS": "/opt/wheels",
        "HOME": "/root",
    }

    assert for_build(environment, [file, tmp_path / "absent"], has_certificates=True) == (
        "[global]\n"
        "index-url = https://d.example/%40x/simple\n"
        "extra-index-url = https://b.example/simple\n"
        "    https://c.example/simple\n"
        "cert = /run/secrets/ca\n"
    )


def test_without_any_setting_pip_uses_its_own_defaults() -> None:
    assert for_build({}, [], has_certificates=False) == "[global]\n"
