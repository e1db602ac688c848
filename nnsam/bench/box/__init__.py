"""`nnsam bench box`: accuracy, and time over image sizes."""
