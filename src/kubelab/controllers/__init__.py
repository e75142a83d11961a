"""The controllers that ordinary manifests need; they run in the API server's process over its store.

Entry: `manager.ControllerManager(store, options)`; `await manager.run()`. One file per controller.
"""
