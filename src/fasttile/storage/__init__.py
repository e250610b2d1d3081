"""Files, folders, locks and buckets; nothing here knows pixels or tiles."""
