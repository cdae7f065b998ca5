"""Sites behind Globus Compute: the campaign is led here, its stages run where no file can be seen from here."""
