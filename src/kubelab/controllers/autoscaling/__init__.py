"""HorizontalPodAutoscalers: from what pods use to how many there should be."""
