"""What people look at: the report of an evaluation, pictures of a study, outlines on images.

model      what a report shows, as plain data
html       the report as one self-contained page
figures    its figures, as SVG
overlays   outlines of objects on their image
study      what the pictures of a study show: history, importances, parallel coordinates, learning curves
study_page its pictures as a page to explore
study_png  the same as one picture
"""
