-- The code that the soak test loads again and again.
return 42
