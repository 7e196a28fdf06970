"""The labels, in the order of the model's outputs."""

from __future__ import annotations

LABELS: tuple[str, ...] = (
    "billing",
    "commerce",
    "code",
    "ci_cd",
    "alerts",
    "tasks",
    "support",
    "messaging",
    "crm",
    "forms",
    "identity",
    "scheduling",
    "content",
    "other",
)
