"""Losses: functions of logits before softmax."""
