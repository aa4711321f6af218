"""Operations that look at one number, or one pixel, at a time: addition, and channels side by side."""
