"""The service that takes truths, events and feedback."""
