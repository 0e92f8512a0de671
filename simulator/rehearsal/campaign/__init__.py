"""Thousands of procedures, or of implants' doses, played by chance: what ``seedguide campaign`` plays (CAMPAIGN.md)."""
