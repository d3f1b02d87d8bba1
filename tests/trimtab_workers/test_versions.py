from trimtab_workers import versions


def test_what_is_installed_is_safe():
    assert versions.too_old() == []


def test_an_old_package_is_named_with_what_is_needed(monkeypatch):
    found = {"torch": "2.9.1", "transformers": "5.23.0", "ray": "2.53.0", "safetensors": "0.8"}
    monkeypatch.setattr(versions, "version", found.__getitem__)
    assert versions.too_old() == [
        "torch 2.9.1 (at least 2.10 is needed)",
        "ray 2.53.0 (at least 2.54 is needed)",
    ]
