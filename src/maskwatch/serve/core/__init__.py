"""What the routes share: models, inference, admission, authentication, request bodies, metrics."""
