"""Networks that find and describe faces (detectors, landmarks, recognisers), and those that find text and codes."""
