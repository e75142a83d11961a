"""Programs that stand in for what images hold; `run.py` starts them, `kubelab.images` says which for what image."""
