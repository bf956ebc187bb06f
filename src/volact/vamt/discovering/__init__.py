"""Finding machines: by directory, DNS, address and file (V1). Each source yields sightings, and what it left out."""
