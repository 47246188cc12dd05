"""What sees a face: detectors, landmarks, recognisers."""
