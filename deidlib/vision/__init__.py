"""What sees a face: detectors, landmarks, recognisers. And what sees text and codes."""
