"""What passes between requester and worker: `Message`, `Reply`, `ReplyTo`. Frozen values."""
