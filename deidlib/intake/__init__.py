"""Intake: the sample sheet, the cohort's plan, and photographs decoded without their metadata."""
