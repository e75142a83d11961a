"""A lab as a whole: up, down, status, and entry into its nodes."""

from kubelab.lab.errors import LabError
from kubelab.lab.lab import Lab
from kubelab.lab.options import LabOptions
from kubelab.lab.preflight import Finding, preflight

__all__ = ["Finding", "Lab", "LabError", "LabOptions", "preflight"]
