"""What nodes and pods use, measured by kubelets: metrics.k8s.io.

`samples` holds what was measured and says what follows from it, `collector` asks the kubelets, `api` shows it as
metrics-server does. The API server serves it; the controller of HorizontalPodAutoscalers reads it.
"""
