"""Has truths made by people: picks what they are to look at, and brings home what they said."""
