@echo off
rem Made by ibexdeploy: IBEX starts again after a restart of the machine when it ran before.
if exist "{{ places.var }}\tmp\ibex_running.txt" call "{{ places.server }}\start_ibex_server.bat"
