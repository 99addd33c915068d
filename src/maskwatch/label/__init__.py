"""`maskwatch label`: labels the pictures of a folder in a browser, see docs/label.md. The page is in web/."""
