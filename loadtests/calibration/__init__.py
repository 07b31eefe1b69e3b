"""How often the drift rules are wrong and how soon they are right, measured offline on seeded data."""
