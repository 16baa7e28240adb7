"""The method's networks: plain modules that know nothing of recordings and trainers; the mixin in
``pretrained.py`` saves and loads them.

Glossary for the shape annotations: ``feature`` is the width of the model (H in the paper) or,
inside an S4D layer, its number of SSMs; ``mode`` a conjugate pair of SSM states; ``lag`` samples of
a convolution kernel; ``block`` one of the backbone's residual blocks; ``pool`` a pooling window;
``query`` a kind of activity (gate, filter or inter).
"""
