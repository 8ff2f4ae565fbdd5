@echo off
rem Made by ibexdeploy.
echo This stops what runs now and starts IBEX. First see that the instrument is in SETUP, and that the file of
echo the last run has appeared on the archive.
choice /m "Switch {{ name }} to IBEX"
if errorlevel 2 exit /b 1
schtasks /run /tn "ibexdeploy\switch to IBEX"
echo It takes a few minutes. What happened is written to {{ places.desktop }}\Switch to IBEX.txt
pause
