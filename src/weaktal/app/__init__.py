"""The page that people work in: tags, clicks, training, review; a thin server over the other rooms."""
